-- How many transactions were committed that wrote something: whoever remembers more knows that some were lost. One row,
-- from the first of them on.
CREATE TABLE progress (id {int} PRIMARY KEY CHECK (id = 1), commits {int} NOT NULL) {strict};
