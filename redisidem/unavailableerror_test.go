package redisidem_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestOutageReportsTheLastServerError lets the last try end without a reply, after earlier tries
// had one.
func TestOutageReportsTheLastServerError(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Timeout: 2 * time.Second})
		b.server.SetError("LOADING Redis is loading the dataset in memory")
		go func() {
			time.Sleep(time.Second)
			b.mute()
		}()
		_, err := svc.Scope("a").InitializeRequest(ctx, "k", request)
		mustBe(b, err, redisidem.ErrUnavailable)
		if !strings.Contains(err.Error(), "LOADING") {
			b.Errorf("the error is %v", err)
		}
		b.thaw()
	})
}
