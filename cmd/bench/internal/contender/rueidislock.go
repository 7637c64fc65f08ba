package contender

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
)

var rueidislockKind = Kind{
	Name: "rueidislock", Title: "rueidislock by hand",
	About: "The same work with rueidis and its lock, which uses client-side caching. The client always pipelines. " +
		"Nothing is fenced.",
	Replays: true,
	Open: func(_ context.Context, dial Dial, prefix string) (Contender, error) {
		addr, err := dial.Addr()
		if err != nil {
			return nil, err
		}
		locks, err := rueidislock.NewLocker(rueidislock.LockerOption{
			KeyPrefix: prefix + ":lock", KeyMajority: 1, NoLoopTracking: true, KeyValidity: lease,
			TryNextAfter: patience, // bounds each attempt; the default of 20 ms is too short here
			ClientOption: rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true},
		})
		if errors.Is(err, rueidis.ErrNoCache) {
			return nil, fmt.Errorf("%w: the server has no client-side caching (CLIENT TRACKING), which this lock rests on", ErrUnable)
		}
		if err != nil {
			return nil, err
		}
		return &rueidisContender{locks: locks, prefix: prefix}, nil
	},
}

type rueidisContender struct {
	locks  rueidislock.Locker
	prefix string
}

var rueidisWrite = rueidis.NewLuaScript(writeSource)

func (g *rueidisContender) Do(ctx context.Context, r Request, work Work) (response []byte, replayed bool, err error) {
	name := g.prefix + ":{" + r.Key + "}"
	held, release, err := g.locks.TryWithContext(ctx, name)
	if errors.Is(err, rueidislock.ErrNotLocked) {
		return nil, false, ErrInFlight
	}
	if err != nil {
		return nil, false, err
	}
	defer release()
	now := time.Now()
	client := g.locks.Client()
	record, err := client.Do(held, client.B().Hgetall().Key(name).Build()).AsStrMap()
	if err != nil {
		return nil, false, err
	}
	digest := fingerprint(r)
	if len(record) > 0 {
		if record["fingerprint"] != digest {
			return nil, false, errors.New("the key was used with another request")
		}
		if record["recovery_point"] == "finished" {
			return []byte(record["response_body"]), true, nil
		}
	}
	body, err := work(held)
	if err != nil {
		return nil, false, err
	}
	stored, err := rueidisWrite.Exec(held, client, []string{name}, []string{
		r.Key, "bench", r.Method, r.Path, string(r.Params),
		digest, "200", string(body), strconv.FormatInt(now.UnixMicro(), 10), strconv.FormatInt(retention.Milliseconds(), 10),
	}).AsInt64()
	if err != nil {
		return nil, false, err
	}
	if stored != 1 {
		return nil, false, errors.New("another worker was faster")
	}
	return body, false, nil
}

func (g *rueidisContender) Close() error {
	g.locks.Close()
	return nil
}
