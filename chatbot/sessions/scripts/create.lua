-- Stores the document of a new session, unless there is one already. Its time to live is never renewed beyond `max_age_ms` from now, 0 for no limit.
if exists() then
  return 'exists'
end
redis.call('JSON.SET', document, '$', content)
if max_age_ms ~= '0' then
  redis.call('HSET', state, 'ends', now() + max_age_ms)
end
touch()
return 'created'
