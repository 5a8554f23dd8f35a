-- The whole document; its time to live starts anew.
-- ARGV: time to live in ms
local text = redis.call('JSON.GET', document)
if text then
  touch(ARGV[1])
end
return text
