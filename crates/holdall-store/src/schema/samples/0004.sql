INSERT INTO build_output (build_id, name, resource_id, digest, version, position) VALUES (1, 'api', 1, 'd2', '{"ref":"a2"}', 1);
