-- What is stored of one request: its human message; its reply, its failure, and its place among the pending ones from 0, each
-- '' if there is none; whether a worker holds the lease; text, reasoning and calls generated so far; the number of the last
-- event. Renews the session's time to live.
if not exists() then
  return {'gone'}
end
local turn, human = turn_of(message)
if not human then
  return {'unknown'}
end
touch()
local first, bot = positions(turn)
if not first then
  return {'unknown'}
end
local function stored(position)
  return position and redis.call('JSON.GET', document, '.messages[' .. position - trimmed() .. ']') or ''
end
local place = redis.call('LPOS', pending, message)
local next = place == 0
return {
  'here', redis.call('JSON.GET', document, '.name'), stored(first), stored(bot),
  redis.call('HGET', failed, message) or '', place or '', next and redis.call('EXISTS', lease) or 0,
  next and redis.call('GET', partial) or '', next and behind_header(partial_reasoning, claim_header()) or '',
  next and behind_header(partial_calls, claim_header()) or '', tonumber(redis.call('HGET', state, 'events') or 0)
}
