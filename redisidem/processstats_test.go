package redisidem_test

import (
	"context"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestProcessStatsCountLeasesAndCommits(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		mustHave := func(want redisidem.ProcessStats) {
			b.Helper()
			if got := svc.ProcessStats(); got != want {
				b.Errorf("the stats are %+v, want %+v", got, want)
			}
		}
		mustHave(redisidem.ProcessStats{})
		_, err := sc.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			mustHave(redisidem.ProcessStats{LeasesHeld: 1})
			b.freeze()
			return redisidem.Finish(redisidem.JSON(200, "done")), nil
		})
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		mustHave(redisidem.ProcessStats{CommitsPending: 1})
		b.thaw()
		time.Sleep(10 * time.Second)
		mustHave(redisidem.ProcessStats{})
		b.mute()
		_, err = sc.Do(ctx, "other", request, never(b))
		mustBe(b, err, redisidem.ErrUnavailable)
		time.Sleep(redisidem.DefaultTimeout + time.Millisecond)
		mustHave(redisidem.ProcessStats{GiveBacksPending: 1})
		b.thaw()
		time.Sleep(time.Minute)
		mustHave(redisidem.ProcessStats{})
	})
}

func TestProcessStatsCountCopies(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := warm(b, b.service(copies()))
		before := svc.ProcessStats()
		for range 3 { // a first execution, and replays
			_, err := svc.Scope("a").Do(ctx, "k", request, finish("done"))
			mustBe(b, err, nil)
		}
		got := svc.ProcessStats()
		if got.Copies < 1 || got.CopyBytes == 0 || got.CopyHits-before.CopyHits != 2 || got.CopyMisses-before.CopyMisses != 1 {
			b.Errorf("the stats are %+v, and before %+v", got, before)
		}
	})
}
