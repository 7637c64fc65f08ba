package watermillidem

import (
	"maps"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
)

// TestMessagesAreStoredWithAllTheirBytes has a UUID and metadata that are no text, and some that
// look as if they were stored already.
func TestMessagesAreStoredWithAllTheirBytes(t *testing.T) {
	m := message.NewMessage("u\xff%2f", []byte("p\xff"))
	m.Metadata = message.Metadata{"trace": "\xff\xfe", "\xff": "a", "path": "%41 ü/\x00"}
	r := encode([]*message.Message{m, message.NewMessage("plain", nil)})
	again, err := decode(&r)
	if err != nil || len(again) != 2 {
		t.Fatalf("%d messages, %v", len(again), err)
	}
	if got := again[0]; got.UUID != m.UUID || !maps.Equal(got.Metadata, m.Metadata) || string(got.Payload) != string(m.Payload) {
		t.Errorf("%q %q %q", got.UUID, got.Metadata, got.Payload)
	}
	if got := again[1]; got.UUID != "plain" || len(got.Metadata) > 0 || len(got.Payload) > 0 {
		t.Errorf("%+v", got)
	}
}
