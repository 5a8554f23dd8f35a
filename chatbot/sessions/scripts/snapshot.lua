-- Returns what a socket needs to go on from the message `after`, or else from the `position` in the log; either may be ''.
-- When more than a page of messages follows, none is returned. The messages take their part of a page's token from each
-- bucket; where that is lacking, none is returned either.
-- An empty `ttl_ms` leaves the time to live as it is.
if not exists() then
  return {'gone'}
end
if ttl_ms ~= '' then
  touch()
end
local gone = trimmed()
local length = gone + redis.call('JSON.ARRLEN', document, '.messages')
local from, recovered, messages, lineages = tonumber(position), '', '', {}
if after ~= '' then
  local known = redis.call('HGET', index, after)
  from = known and string.match(known, '^%a:(%d+)') + 1
  recovered = '0'
end
if from then
  local start, stop, first = math.max(from - gone, 0), length - gone, math.huge
  local missed = stop - start
  if missed <= 0 then
    messages, first = page(start, stop)
  elseif missed <= tonumber(page_messages) then
    local count, bytes = fitting(start, stop)
    if count >= missed and take_tokens(math.max(missed / page_messages, math.min(bytes / page_bytes, 1))) == 0 then
      messages, first = page(start, stop)
    end
  end
  recovered = first <= start and '1' or '0'
  if recovered == '0' then
    messages = ''
  elseif messages ~= '' then
    lineages = lineage(start, stop)
  end
end

-- The failed messages, each with its error; of many, those among the newest messages.
local function failures()
  if redis.call('HLEN', failed) <= tonumber(page_messages) then
    return redis.call('HGETALL', failed)
  end
  local result = {}
  local start = math.max(length - gone - page_messages, 0)
  for i = start, length - gone - 1 do
    local id = string.sub(redis.call('JSON.GET', document, '.messages[' .. i .. '].id'), 2, -2)
    local text = redis.call('HGET', failed, id)
    if text then
      result[#result + 1] = id
      result[#result + 1] = text
    end
  end
  return result
end

local unanswered, failures_found = redis.call('LRANGE', pending, 0, -1), failures()
local requests = {unpack(unanswered)}
for i = 1, #failures_found, 2 do
  requests[#requests + 1] = failures_found[i]
end
return {
  'here', redis.call('JSON.GET', document, '.name'), redis.call('JSON.GET', document, '.session_start'),
  redis.call('PTTL', document), length, recovered, messages, redis.call('GET', partial) or '',
  behind_header(partial_reasoning, claim_header()), unanswered, failures_found, tonumber(redis.call('HGET', state, 'events') or 0), leaf_json(),
  tonumber(redis.call('HGET', state, 'selected') or 0), regenerations(requests), lineages
}
