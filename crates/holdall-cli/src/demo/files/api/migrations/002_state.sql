-- Expand: code that does not know the column goes on working.
ALTER TABLE notification ADD COLUMN state TEXT NOT NULL DEFAULT 'accepted';
