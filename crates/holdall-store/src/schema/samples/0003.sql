INSERT INTO progress (id, commits) VALUES (1, 7);
