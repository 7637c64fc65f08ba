-- abandon: ends an attempt without a result. The record remembers the token as spent, also when
-- this call arrives before the claim that it belongs to: that claim is then refused.
--
-- KEYS[1] record   KEYS[2] lock, left out while its slot migrates: the caller gives it back
-- KEYS[3] due index, left out when the key is not recoverable
-- KEYS[4] dead letters, when a completer gives the key up; left out otherwise
-- ARGV[1] token
-- ARGV[2] flags:
--         'n' nothing was done: this attempt at the stage does not count
--         'a' no callback has begun under this lease: it does not count among all attempts either
--         's' a shutdown stopped the attempt: it had begun, and a completer makes one more for it
--         'r' with 'n': no program could work on the key or read it; the look is counted instead
--         'o' the attempt was cut short, so that what it has called may still be at work
--         'u' and a number, at the end: the key waits for an operator. If the stage has an attempt
--             that counts, the record lives for at least so many milliseconds
-- ARGV[3] which run of the stage has failed, its owner and the error, separated by spaces; '' if
--         none has. Without KEYS[3] it may be left out
-- ARGV[4] with KEYS[3]: how long a completer leaves the key alone, in milliseconds. It doubles with
--         each attempt, up to half of the time that the record has left
-- ARGV[5] with KEYS[4]: why the key is given up; without it the longest time that a completer
--         leaves the key alone, in milliseconds, which may be left out
-- ARGV[6] with KEYS[4]: how long the record lives at least, in milliseconds
--
-- Replies
--   OK      token; then '1' if the key is a dead letter through this call or an earlier try of it,
--           '0' if not or if the lease was gone; then '1' if this call is final, because it met the
--           claim, '0' if the claim may be under way or an earlier try met it. An absent record
--           does not remember the token, and neither does a record in which another attempt has
--           ended since, nor a finished one, which may be deleted before the claim arrives
--   DAMAGED token; what is wrong
--
-- Safe to repeat: yes. An absent record stays absent, and a finished one does not change.
-- redis.call: 4 (HMGET, GET, DEL, HSET); 2 without KEYS[2]; no HSET when the record is absent,
-- finished or remembers the token already. Added to that: 2 with a failure (TIME, HSET); 4 with
-- KEYS[3] (TIME, ZADD, PTTL, PEXPIRE); 8 with KEYS[4] (TIME, PTTL, HSET, PEXPIRE, ZREM,
-- ZREMRANGEBYSCORE, ZADD, PEXPIRE); 1 when that set is new (PEXPIRE); 1 each with 's', 'r' and 'o'
-- (HSET) and with 'u' (PEXPIRE); 2 when a caller waits (HDEL, PUBLISH).
local token = ARGV[1]

local r = redis.pcall('HMGET', KEYS[1], 'control', 'recovery_point', 'waiting', 'dead_letter', 'requeued', 'refused')
local holder = token
if KEYS[2] then
  holder = redis.call('GET', KEYS[2])
  if holder == token then
    redis.call('DEL', KEYS[2])
  end
end
if r.err then
  return 'DAMAGED ' .. token .. '\n\n' .. r.err
end
local revision, owner, fence, stage, attempts, length, spent, rest =
  string.match(r[1] or '', '^2 (%d+) (%S+) (%d+) (%d+) (%d+) (%d+) (%S+) (%d+ %S+)$')
local met = '0'
if owner == token then
  met = '1'
end
local buried = '0'
if KEYS[4] and spent == token then
  local letter = ' ' .. revision .. ' ' .. stage .. ' ' .. ARGV[5]
  if string.sub(r[4] or '', -#letter) == letter then
    buried = '1'
  end
end
if revision and spent ~= token and r[2] ~= 'finished' then
  if owner == token then
    owner = '-'
    if (ARGV[3] or '') ~= '' then
      local time = redis.call('TIME')
      local now = time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
      redis.call('HSET', KEYS[1], 'last_failure', now .. ' ' .. revision .. ' ' .. ARGV[3])
    end
    if string.find(ARGV[2], 'n', 1, true) then
      stage = string.format('%d', stage - 1)
    end
    if string.find(ARGV[2], 'a', 1, true) then
      attempts = string.format('%d', attempts - 1)
    end
    if string.find(ARGV[2], 'o', 1, true) then
      redis.call('HSET', KEYS[1], 'open_attempt', revision .. ' ' .. fence)
    end
    local unsettled = string.match(ARGV[2], 'u(%d+)$')
    if unsettled and tonumber(stage) > 0 then
      redis.call('PEXPIRE', KEYS[1], unsettled, 'GT')
    end
    if string.find(ARGV[2], 's', 1, true) then
      local of, more, since = string.match(r[5] or '', '^(%d+) (%d+) (%d+)$')
      if of ~= revision then
        more = 0
      end
      redis.call('HSET', KEYS[1], 'requeued', revision .. ' ' .. string.format('%d', more + 1) .. ' ' .. (since or '0'))
    end
    local failed = stage - 1
    if string.find(ARGV[2], 'r', 1, true) then
      local of, looks = string.match(r[6] or '', '^(%d+) (%d+)$')
      failed = of == revision and tonumber(looks) or 0
      redis.call('HSET', KEYS[1], 'refused', revision .. ' ' .. string.format('%d', failed + 1))
    end
    local member = string.sub(KEYS[1], -32)
    if KEYS[4] then
      buried = '1'
      local time = redis.call('TIME')
      local now = time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
      local life = string.format('%.0f', math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[6])))
      redis.call('HSET', KEYS[1], 'dead_letter', now .. ' ' .. revision .. ' ' .. stage .. ' ' .. ARGV[5])
      redis.call('PEXPIRE', KEYS[1], life, 'GT')
      redis.call('ZREM', KEYS[3], member)
      -- The score of a dead letter is the end of its record. Each call that extends the record
      -- raises it.
      now = math.floor(now / 1000)
      redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', string.format('%.0f', now))
      redis.call('ZADD', KEYS[4], string.format('%.0f', now + life), member)
      -- The set lives as long as the last of its records. GT takes a key without a TTL for one that
      -- never expires, so NX sets the first.
      if redis.call('PEXPIRE', KEYS[4], life, 'GT') == 0 then
        redis.call('PEXPIRE', KEYS[4], life, 'NX')
      end
    elseif KEYS[3] then
      local time = redis.call('TIME')
      local left = redis.call('PTTL', KEYS[1])
      local pause = ARGV[4] * 2 ^ math.min(math.max(failed, 0), 6)
      if left > 0 then
        pause = math.min(pause, left / 2)
      end
      if ARGV[5] then
        pause = math.min(pause, tonumber(ARGV[5]))
      end
      local due = time[1] * 1000 + math.floor(time[2] / 1000) + pause
      redis.call('ZADD', KEYS[3], string.format('%.0f', due), member)
      if left > 0 and redis.call('PEXPIRE', KEYS[3], left, 'GT') == 0 then
        redis.call('PEXPIRE', KEYS[3], left, 'NX') -- as above
      end
    end
  end
  redis.call('HSET', KEYS[1], 'control', '2 ' .. revision .. ' ' .. owner .. ' ' .. fence .. ' ' .. stage .. ' ' .. attempts .. ' '
    .. length .. ' ' .. token .. ' ' .. rest)
end
if r[3] and holder == token then
  redis.call('HDEL', KEYS[1], 'waiting')
  for channel in string.gmatch(r[3], '%S+') do
    redis.pcall('PUBLISH', channel, KEYS[1])
  end
end
return 'OK ' .. token .. ' ' .. buried .. ' ' .. met
