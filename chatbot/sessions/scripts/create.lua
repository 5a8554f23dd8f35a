-- Stores the document of a new session. Its time to live is never renewed beyond `max_age_ms` from now, 0 for no limit.
redis.call('JSON.SET', document, '$', content)
if max_age_ms ~= '0' then
  redis.call('HSET', state, 'ends', now() + max_age_ms)
end
touch()
return 'created'
