-- Removes keys of the store, whatever they hold: ARGV are their names.

for _, key in ipairs(ARGV) do
  call('UNLINK', key)
end
