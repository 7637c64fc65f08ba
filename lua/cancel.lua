-- cancel: marks the key of a flow as canceled, and takes the lease away from its worker. The next
-- one that has the lease, with the flow, undoes what is committed and finishes the key. The lock
-- stays: that begins when the worker has given it back, or when it lapses.
--
-- KEYS[1] record   KEYS[2] lock
-- KEYS[3] due index   KEYS[4] dead letters: both of the record's flow; left out when it is unknown
-- ARGV[1] nonce, echoed in the reply
-- ARGV[2] when the record that the caller has seen was created, since it may have been deleted and
--         made again; '' for any
--
-- Replies
--   OK      nonce: the key is canceled, by this call or an earlier one
--   GONE    nonce: the record does not exist
--   MOVED   nonce: the record was made later
--   DONE    nonce: too late, because the record is finished
--   LATE    nonce: too late, because the flow has failed already, or is behind its point of no
--           return
--   OTHER   nonce; the record's flow, which has another index and list; '' when it has none
--   DAMAGED nonce; what is wrong
--
-- Safe to repeat: yes. A key that is canceled stays as it is, unless it has become a dead letter
-- before it was failed: that is in the index again.
-- redis.call: 5 (HMGET, PTTL, TIME, HSET, ZADD), and 5 more for a dead letter (HDEL, HSET, ZREM,
-- PTTL, PEXPIRE; PEXPIRE twice when the index is new). 2 for the other replies (HMGET, HDEL), 1 for
-- DONE (HMGET).
local nonce = ARGV[1]
local member = string.sub(KEYS[1], -32)

-- Changes nothing, but a server that is no longer a master refuses it. Its data may be out of date
-- and justifies no refusal.
local function master()
  redis.call('HDEL', KEYS[1], '')
end

local r = redis.pcall('HMGET', KEYS[1], 'control', 'recovery_point', 'flow', 'canceled', 'no_return', 'dead_letter')
if r.err then
  return 'DAMAGED ' .. nonce .. '\n\n' .. r.err
end
if not r[1] then
  master()
  return 'GONE ' .. nonce
end
local revision, owner, fence, stage, counts, spent, rest =
  string.match(r[1], '^2 (%d+) (%S+) (%d+) (%d+) (%d+ %d+) (%S+) (%d+ %S+)$')
if not revision then
  return 'DAMAGED ' .. nonce .. '\n\nunknown schema version, or control cannot be read'
end
if ARGV[2] ~= '' and string.match(rest, '^%d+') ~= ARGV[2] then
  master()
  return 'MOVED ' .. nonce
end
local late = r[5] or string.find(r[2] or '', '^compensate:%d+$')
if r[4] and (late or not r[6]) then
  master()
  return 'OK ' .. nonce
end
if r[2] == 'finished' then
  return 'DONE ' .. nonce
end
local flow = string.match(r[3] or '', '^[^/]*')
if flow == '' or not KEYS[3] or string.sub(KEYS[3], -#flow - 5) ~= ':due:' .. flow then
  master()
  return 'OTHER ' .. nonce .. '\n\n' .. (r[3] or '')
end
if late then
  master()
  return 'LATE ' .. nonce
end

local left = math.max(redis.call('PTTL', KEYS[2]), 0)
local time = redis.call('TIME')
local now = time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
if owner ~= '-' and owner ~= '~' then
  spent = owner
end
redis.call('HSET', KEYS[1], 'control', '2 ' .. revision .. ' - ' .. string.format('%.0f', fence + 1) .. ' ' .. stage .. ' '
  .. counts .. ' ' .. spent .. ' ' .. rest, 'canceled', now)
-- The key is due when the lock has lapsed. A dead letter is in the index again, and its attempts
-- count from here. A key that is in neither has a flow that is not recoverable.
local due = string.format('%.0f', math.floor(now / 1000) + left)
if r[6] then
  redis.call('HDEL', KEYS[1], 'dead_letter', 'refused')
  redis.call('HSET', KEYS[1], 'requeued', revision .. ' ' .. stage .. ' ' .. now)
  redis.call('ZREM', KEYS[4], member)
  redis.call('ZADD', KEYS[3], due, member)
  -- The index lives as long as the last of its records. GT takes a key without a TTL for one that
  -- never expires, so NX sets the first.
  local life = redis.call('PTTL', KEYS[1])
  if life > 0 and redis.call('PEXPIRE', KEYS[3], life, 'GT') == 0 then
    redis.call('PEXPIRE', KEYS[3], life, 'NX')
  end
else
  redis.call('ZADD', KEYS[3], 'XX', due, member)
end
return 'OK ' .. nonce
