-- Stops the reply that is being generated, or that is due next.
if not exists() then
  return {'gone'}
end
if not stop_reply() then
  return {'nothing'}
end
touch()
return {'stopping', redis.call('EXISTS', lease)}
