package httpidem_test

import (
	"slices"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestPolicyHasTheValuesInForce(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{Retention: 48 * time.Hour})
	m := newMiddleware(t, svc, &httpidem.Config{Methods: []string{"put", "POST"}, PolicyURL: "https://a.example/", Key: httpidem.KeyConfig{Optional: true}})
	p := m.Policy()
	if p.Header != "Idempotency-Key" || !slices.Equal(p.Methods, []string{"POST", "PUT"}) || p.Required || p.Retention != 48*time.Hour ||
		p.MaxKeyBytes != 255 || p.MaxBodyBytes != 1<<20 || p.MaxResponseBytes != 1<<20 || p.Document != "https://a.example/" || p.Lease != 10*time.Second {
		t.Errorf("%+v", p)
	}
	if !slices.Contains(p.Kept, 404) || slices.Contains(p.Kept, 429) || slices.Contains(p.Kept, 500) {
		t.Errorf("kept: %v", p.Kept)
	}
}

// TestPolicyPublishesWhatIsKept is about the statuses that an API can publish: one that is never
// "final" is not in the list.
func TestPolicyPublishesWhatIsKept(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{Response: httpidem.ResponseConfig{Status: httpidem.KeepAll}})
	kept := m.Policy().Kept
	if len(kept) != 398 || slices.Contains(kept, 423) || slices.Contains(kept, 425) || !slices.Contains(kept, 599) {
		t.Errorf("%d statuses: %v", len(kept), kept)
	}
	m = newStore(t).middleware(&httpidem.Config{Response: httpidem.ResponseConfig{Status: statusPolicy(t, "201", "404")}})
	if kept := m.Policy().Kept; !slices.Equal(kept, []int{201, 404}) {
		t.Errorf("kept are %v", kept)
	}
}
