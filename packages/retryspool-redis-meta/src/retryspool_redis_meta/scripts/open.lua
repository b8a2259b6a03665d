-- Opens the store, and makes it if it isn't there: ARGV[1] is the format to make it in. Returns the format that it has,
-- and the last change.

local key = base .. ':format'
if call('EXISTS', key) == 0 then
  call('SET', key, ARGV[1])
end
local last = call('XREVRANGE', base .. ':changes', '+', '-', 'COUNT', 1)[1]
return { call('GET', key), last and last[1] or '0-0' }
