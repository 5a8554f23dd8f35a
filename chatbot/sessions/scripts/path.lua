-- The messages of the path to a request, its own and its reply included, up to `prompt_size` of them.
if not exists() then
  return {'gone'}
end
local turn, human = turn_of(message)
if not human then
  return {'unknown'}
end
touch()
local messages = prompt(message)
local _, bot = positions(turn)
if bot then
  messages[#messages + 1] = redis.call('JSON.GET', document, '.messages[' .. bot - trimmed() .. ']')
end
return {'path', redis.call('JSON.GET', document, '.name'), unpack(messages)}
