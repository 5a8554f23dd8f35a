-- Stores the document of a new session.
redis.call('JSON.SET', document, '$', content)
touch()
return 'created'
