-- Returns the whole document, and renews its time to live.
local text = redis.call('JSON.GET', document)
if text then
  touch()
end
return text
