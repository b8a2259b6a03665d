-- The record of the id ARGV[1]: head and body, or "missing" or "damaged".

local r, why = read(ARGV[1])
return r and { r.head, r.body } or why
