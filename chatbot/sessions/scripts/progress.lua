-- During a reply: renews the lease, reads the stop flag, stores and publishes new text, and new reasoning before it. The
-- offsets are the bytes at which they belong; 0 replaces what is stored.
if not owns_lease() then
  return rejection()
end
hold_lease()
if redis.call('HGET', state, 'stop') == message then
  return 'stop'
end

-- Stores new text at its offset behind a header, and publishes it. Returns whether all text before it was stored.
local function add(key, header, new, at, event)
  if at == '0' then
    redis.call('SET', key, header .. new)
  elseif redis.call('STRLEN', key) ~= #header + at then
    return false
  else
    redis.call('APPEND', key, new)
  end
  expire_with_session(key)
  publish(event)
  return true
end

if reasoning ~= '' and not add(partial_reasoning, reasoning_header(), reasoning, reasoning_offset, reasoning_frame) then
  return 'behind'
end
if text ~= '' and not add(partial, '', text, offset, frame) then
  return 'behind'
end
return 'on'
