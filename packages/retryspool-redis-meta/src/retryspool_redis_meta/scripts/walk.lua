-- Walks the ids of a state in order: ARGV is the state, the id to go on after, how many, and names of fields.
-- Without fields, returns id, head and body of each, empty where they can't be read. With fields, returns the number of
-- ids, and a line each of id and fields, of those that can be read.

local state, after, count = ARGV[1], ARGV[2], tonumber(ARGV[3])

local function ids()
  local found = {}
  local begin = page_at(state, after) or call('ZRANGE', pages_of(state), 0, 0)[1]
  while begin and #found < count do
    local from = after == '' and '-' or '(' .. after
    for _, id in ipairs(call('ZRANGEBYLEX', page_key(state, begin), from, '+', 'LIMIT', 0, count - #found)) do
      found[#found + 1] = id
    end
    begin = call('ZRANGEBYLEX', pages_of(state), '(' .. begin, '+', 'LIMIT', 0, 1)[1]
  end
  return found
end

local found, answer = ids(), {}
if #ARGV == 3 then
  for _, id in ipairs(found) do
    local r = read(id) or { head = '', body = '' }
    local n = #answer
    answer[n + 1], answer[n + 2], answer[n + 3] = id, r.head, r.body
  end
  return answer
end
for _, id in ipairs(found) do
  local r = read(id)
  if r then
    local fields = { id }
    for at = 4, #ARGV do
      fields[#fields + 1] = r[ARGV[at]]
    end
    answer[#answer + 1] = table.concat(fields, ' ')
  end
end
return { #found, found[#found] or '', table.concat(answer, '\n') }
