-- A build may put under one name more than once, and vouches for all that it has put (reference, section 3.1).
ALTER TABLE build_output RENAME TO build_output_by_name;
CREATE TABLE build_output (
  build_id {int} NOT NULL REFERENCES build (id), name TEXT NOT NULL, resource_id {int} NOT NULL,
  digest TEXT NOT NULL, version TEXT NOT NULL, position {int} NOT NULL,
  PRIMARY KEY (build_id, position)
) {strict};
INSERT INTO build_output (build_id, name, resource_id, digest, version, position)
  SELECT build_id, name, resource_id, digest, version, position FROM build_output_by_name;
DROP TABLE build_output_by_name;
