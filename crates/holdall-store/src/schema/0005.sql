-- Whether a job had inputs when the scheduler last looked at it: only then do its builds go before those of other jobs in a
-- serial group (reference, section 4.3). The jobs that this concerns are looked at again.
ALTER TABLE job ADD COLUMN inputs_determined {int} NOT NULL DEFAULT 1;
UPDATE job SET dirty = 1 WHERE max_in_flight > 0 AND active = 1;
