-- abandon: ends an attempt without a result. The token is remembered as spent, also when this arrives before the
-- claim it belongs to: the claim is then refused.
--
-- KEYS[1] record   KEYS[2] lock, left out while the slot is split: the caller gives it back
-- KEYS[3] due index, left out when the key is not recoverable
-- KEYS[4] dead letters, when a completer gives the key up; left out otherwise
-- ARGV[1] token
-- ARGV[2] flags: 'n', nothing was done, so that this attempt at the stage does not count; 'a', no callback has begun under this lease,
--         so that it is not among all attempts at the key either; 's', it was stopped by a shutdown: it was begun, but a completer
--         makes one more attempt for it; 'r' with 'n', no program could work on the key or read it: the look is counted instead
-- ARGV[3] with KEYS[3]: how long a completer leaves the key alone, in milliseconds; it doubles with each attempt,
--         up to half of the time that the record has left
-- ARGV[4] with KEYS[4]: why the key is given up   ARGV[5] how long the record lives at least, in milliseconds
--
-- Replies
--   OK token, '1' if the key is given up, by this call or an earlier try, and '0' if not, or if the lease was gone; '1' if nothing
--      can come after this call: it has met the claim, or the record is finished; '0' if the claim may be under way, or an earlier
--      try has met it. An absent record does not remember the token, and another attempt that ends takes its place
--   DAMAGED token; what is wrong
--
-- Safe to repeat: yes. An absent record stays absent, a finished one stays as it is.
-- redis.call: 4 (HMGET, GET, DEL, HSET), 2 without KEYS[2], without HSET when the record is absent, finished or knows already;
-- four more with KEYS[3] (TIME, ZADD, PTTL, PEXPIRE), seven with KEYS[4] (TIME, PTTL, HSET, ZREM, ZREMRANGEBYSCORE, ZADD, PEXPIRE),
-- one more when that set is new (PEXPIRE), one more with 's' or 'r' (HSET), and two when a caller waits (HDEL, PUBLISH).
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
  return {'DAMAGED ' .. token, r.err}
end
local revision, owner, fence, stage, attempts, length, spent =
  string.match(r[1] or '', '^1 (%d+) (%S+) (%d+) (%d+) (%d+) (%d+) (%S+)$')
local met = '0'
if owner == token or r[2] == 'finished' then
  met = '1'
end
local buried = '0'
if KEYS[4] and spent == token then
  local letter = ' ' .. revision .. ' ' .. stage .. ' ' .. ARGV[4]
  if string.sub(r[4] or '', -#letter) == letter then
    buried = '1'
  end
end
if revision and spent ~= token and r[2] ~= 'finished' then
  if owner == token then
    owner = '-'
    if string.find(ARGV[2], 'n', 1, true) then
      stage = string.format('%d', stage - 1)
    end
    if string.find(ARGV[2], 'a', 1, true) then
      attempts = string.format('%d', attempts - 1)
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
      local life = string.format('%.0f', math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[5])))
      redis.call('HSET', KEYS[1], 'dead_letter', now .. ' ' .. revision .. ' ' .. stage .. ' ' .. ARGV[4])
      redis.call('ZREM', KEYS[3], member)
      -- A dead letter's score is the end of its record. Each call that extends the record raises it.
      now = math.floor(now / 1000)
      redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', string.format('%.0f', now))
      redis.call('ZADD', KEYS[4], string.format('%.0f', now + life), member)
      -- The set lives as long as the last of its records. To GT a key without a TTL is one that lives for ever.
      if redis.call('PEXPIRE', KEYS[4], life, 'GT') == 0 then
        redis.call('PEXPIRE', KEYS[4], life, 'NX')
      end
    elseif KEYS[3] then
      local time = redis.call('TIME')
      local left = redis.call('PTTL', KEYS[1])
      local pause = ARGV[3] * 2 ^ math.min(math.max(failed, 0), 6)
      if left > 0 then
        pause = math.min(pause, left / 2)
      end
      local due = time[1] * 1000 + math.floor(time[2] / 1000) + pause
      redis.call('ZADD', KEYS[3], string.format('%.0f', due), member)
      if left > 0 and redis.call('PEXPIRE', KEYS[3], left, 'GT') == 0 then
        redis.call('PEXPIRE', KEYS[3], left, 'NX') -- as above
      end
    end
  end
  redis.call('HSET', KEYS[1], 'control', '1 ' .. revision .. ' ' .. owner .. ' ' .. fence .. ' ' .. stage .. ' ' .. attempts .. ' '
    .. length .. ' ' .. token)
end
if r[3] and holder == token then
  redis.call('HDEL', KEYS[1], 'waiting')
  for channel in string.gmatch(r[3], '%S+') do
    redis.pcall('PUBLISH', channel, KEYS[1])
  end
end
return {'OK ' .. token .. ' ' .. buried .. ' ' .. met}
