-- audit: writes who did what to a key, and why, into the audit stream of the key's shard. Alone it
-- records something that was done otherwise. The text of another script can take the place of its
-- act: the outcome of that script is then recorded in the step in which it runs.
--
-- KEYS[1] audit stream   KEYS[2...] keys of the act
-- ARGV[1] nonce, echoed in the reply   ARGV[2] what is done   ARGV[3] the key's digest
-- ARGV[4] who does it   ARGV[5] why
-- ARGV[6] how many entries the stream keeps; it may keep some more
-- ARGV[7] how long the stream is kept after its last entry, in milliseconds
-- ARGV[8...] further arguments of the act
--
-- Replies
--   those of the act, and
--   OK      nonce
--   DAMAGED nonce; what is wrong: the Redis user may not write the stream
--
-- Safe to repeat: yes. The entry has the reply, which names the nonce. A repeated call finds it
-- among the last entries, and gets its first element again; the act does not run.
-- redis.call: 3 and those of the act (XREVRANGE, XADD, PEXPIRE); 1 when repeated.
local function act(KEYS, ARGV)
  local nonce = ARGV[1]
  return 'OK ' .. nonce
end

local nonce = ARGV[1]

for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', '32')) do
  for i = 1, #entry[2], 2 do
    local reply = entry[2][i + 1]
    if entry[2][i] == 'reply' and string.match(reply, '^%S+ (%S+)') == nonce then
      return reply
    end
  end
end
if redis.acl_check_cmd and not redis.acl_check_cmd('XADD', KEYS[1], '*', 'act', ARGV[2]) then
  return 'DAMAGED ' .. nonce .. "\n\nThe user executing the script can't run XADD on the audit stream"
end
local reply = act({unpack(KEYS, 2)}, {nonce, unpack(ARGV, 8)})
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[6], '*', 'act', ARGV[2], 'key', ARGV[3], 'actor', ARGV[4], 'reason', ARGV[5],
  'reply', string.match(reply, '^[^\n]*'))
redis.call('PEXPIRE', KEYS[1], ARGV[7])
return reply
