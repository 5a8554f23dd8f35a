-- Stops the reply that is being generated, or that is due next, unless it is stopped already: then the one after it.
if not exists() then
  return {'gone'}
end
if not stop_reply(true) then
  return {'nothing'}
end
touch()
return {'stopping', redis.call('EXISTS', lease)}
