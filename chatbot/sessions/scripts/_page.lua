-- Pages of the log: consecutive messages, at most `page_bytes` of JSON, but at least one message. Places here are indexes
-- of the array that is stored: positions without the trimmed messages.

-- Bytes of a message's JSON besides its text, roughly: `page` checks the result.
local MESSAGE_OVERHEAD = 200

-- Bytes of the reasoning of the messages from `start` to before `stop`; most have none.
local function reasoning_bytes(start, stop)
  local sum = 0
  for _, size in ipairs(redis.call('JSON.STRLEN', document, '$.messages[' .. start .. ':' .. stop .. '].reasoning')) do
    sum = sum + size
  end
  return sum
end

-- How many of the messages from `start` to before `stop` fit into a page, counted from the newest, and their bytes. Reads
-- no text.
local function fitting(start, stop)
  local sizes = redis.call('JSON.STRLEN', document, '$.messages[' .. start .. ':' .. stop .. '].msg')
  local most, bytes, count = tonumber(page_bytes), 0, 0
  for i = #sizes, 1, -1 do
    local sum = bytes + sizes[i] + MESSAGE_OVERHEAD
    if sum > most and count > 0 then
      break
    end
    bytes, count = sum, count + 1
  end
  while count > 1 do
    local sum = bytes + reasoning_bytes(stop - count, stop)
    if sum <= most then
      break
    end
    local fewer = math.max(math.floor(count * most / sum), 1)
    for i = #sizes - count + 1, #sizes - fewer do
      bytes = bytes - sizes[i] - MESSAGE_OVERHEAD
    end
    count = fewer
  end
  return count, bytes
end

-- The newest messages from `start` to before `stop` that fit into a page, as a JSON array, and the place of the first.
local function page(start, stop)
  if start >= stop then
    return '[]', stop
  end
  start = stop - (fitting(start, stop))
  while true do
    local text = redis.call('JSON.GET', document, '$.messages[' .. start .. ':' .. stop .. ']')
    if #text <= tonumber(page_bytes) or start + 1 == stop then
      return text, start
    end
    -- Escaped characters make a text longer.
    start = math.min(start + math.ceil((stop - start) * (1 - page_bytes / #text)), stop - 1)
  end
end
