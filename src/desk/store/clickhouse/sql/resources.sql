-- A row for each resource.
SELECT {resource} AS hash, any({resource_attributes}) AS attributes
FROM {spans}
GROUP BY hash
