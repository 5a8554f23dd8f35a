-- During a reply: renews the lease, reads the stop flag, stores and publishes new text. `offset` is the byte at which
-- the text belongs; 0 replaces what is stored.
if not owns_lease() then
  return rejection()
end
hold_lease()
if redis.call('HGET', state, 'stop') == message then
  return 'stop'
end
if text ~= '' then
  if offset == '0' then
    redis.call('SET', partial, text)
  elseif redis.call('STRLEN', partial) ~= tonumber(offset) then
    return 'behind'
  else
    redis.call('APPEND', partial, text)
  end
  expire_with_session(partial)
  publish(frame)
end
return 'on'
