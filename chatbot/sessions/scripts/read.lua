-- Returns a page of up to `limit` messages, the newest or those before the message `before`, and renews the session's time
-- to live. Takes a token from each bucket first, or refuses.
local wait = take_tokens()
if wait > 0 then
  return {'limited', wait}
end
if not exists() then
  return {'gone'}
end
local stop
if before == '' then
  stop = redis.call('JSON.ARRLEN', document, '.messages')
else
  local known = redis.call('HGET', index, before)
  if not known then
    return {'unknown'}
  end
  stop = string.match(known, '^%a:(%d+)') - trimmed()
end
touch()
local messages, start = page(math.max(stop - limit, 0), stop)
return {
  'page', redis.call('JSON.GET', document, '.name'), redis.call('JSON.GET', document, '.session_start'), messages,
  start > 0 and redis.call('JSON.GET', document, '.messages[' .. start .. '].id') or 'null',
  leaf_json(), lineage(start, stop)
}
