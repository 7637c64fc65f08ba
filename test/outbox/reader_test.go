//go:build unix

package outbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
)

// A reader receives three more orders: the stream to read, its own name, and whether it dies on its
// first entry.
const (
	streamVariable = "REDISIDEM_TEST_STREAM"
	readerVariable = "REDISIDEM_TEST_READER"
	mortalVariable = "REDISIDEM_TEST_MORTAL"

	group = "mailer"
)

// read passes on the entries of an outbox. It starts with the entries that another reader has taken
// and not acknowledged.
func read() {
	ctx, pen, client := context.Background(), child.Own(), ownClient(5*time.Second)
	stream, name := os.Getenv(streamVariable), os.Getenv(readerVariable)
	deliver := func(entries []redis.XMessage) {
		for _, entry := range entries {
			pen.Write("%s %s", name, entry.ID)
			if os.Getenv(mortalVariable) != "" {
				child.Tell("read")
				time.Sleep(patience) // the process is killed before
			}
			if err := client.XAck(ctx, stream, group, entry.ID).Err(); err != nil {
				panic(err)
			}
		}
	}
	left, _, err := client.XAutoClaim(ctx, &redis.XAutoClaimArgs{Stream: stream, Group: group, Consumer: name, Start: "0", Count: 100}).Result()
	if err != nil {
		panic(err)
	}
	deliver(left)
	for range 100 {
		found, err := client.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: group, Consumer: name, Streams: []string{stream, ">"}, Count: 1, Block: -1,
		}).Result()
		if errors.Is(err, redis.Nil) {
			return
		}
		if err != nil {
			panic(err)
		}
		deliver(found[0].Messages)
	}
}

func TestReaderKilledBeforeItsAcknowledgementGetsTheEntryAgain(t *testing.T) {
	t.Parallel()
	where := newSite(t, false, rediscase.Server(t).Addr())
	client, ledger := where.direct(t), child.NewLedger(t)
	stream := ""
	_, err := service(client).Scope("outbox").DoFlow(context.Background(), "order", request, orders(func(st *redisidem.Stage) {
		stream = st.ShardKey("outbox")
	}))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := client.XRange(context.Background(), stream, "-", "+").Result()
	if err != nil || len(entries) != len(stages) {
		t.Fatal(entries, err)
	}
	if err := client.XGroupCreate(context.Background(), stream, group, "0").Err(); err != nil {
		t.Fatal(err)
	}

	start := func(name string, variables ...string) *child.Process {
		variables = append(variables, where.variable(), streamVariable+"="+stream, readerVariable+"="+name)
		p, err := child.Start(t, "reader", ledger, variables...)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	mortal := start("first", mortalVariable+"=1")
	if err := mortal.Await("read", patience); err != nil {
		t.Fatal(err)
	}
	mortal.Kill()
	for _, name := range []string{"second", "third"} {
		if err := start(name).Wait(patience); err != nil {
			t.Fatal(err)
		}
	}

	want := []string{"first " + entries[0].ID}
	for _, entry := range entries {
		want = append(want, "second "+entry.ID)
	}
	if got := ledger.Lines(t); !slices.Equal(got, want) {
		t.Errorf("the readers got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	pending, err := client.XPending(context.Background(), stream, group).Result()
	if err != nil || pending.Count != 0 {
		t.Error(fmt.Sprint(pending), err)
	}
}
