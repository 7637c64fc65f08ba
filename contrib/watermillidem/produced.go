package watermillidem

import (
	"encoding/json"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/redisidem/redisidem/redisidem"
)

// produced is a message that a handler has returned, as it is stored.
type produced struct {
	UUID     string            `json:"uuid"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Payload  []byte            `json:"payload"`
}

// encode returns the messages of a handler in the form in which they are stored.
func encode(messages []*message.Message) redisidem.Response {
	stored := make([]produced, len(messages))
	for i, msg := range messages {
		stored[i] = produced{msg.UUID, msg.Metadata, msg.Payload}
	}
	return redisidem.JSON(0, stored)
}

// decode returns the messages that an earlier delivery has stored.
func decode(r *redisidem.Response) ([]*message.Message, error) {
	if r == nil {
		return nil, nil // the key was finished by hand
	}
	var stored []produced
	if err := json.Unmarshal(r.Body, &stored); err != nil {
		return nil, fmt.Errorf("%w: messages of an earlier delivery: %w", redisidem.ErrOtherType, err)
	}
	var messages []*message.Message
	for _, p := range stored {
		msg := message.NewMessage(p.UUID, p.Payload)
		msg.Metadata = p.Metadata
		if msg.Metadata == nil {
			msg.Metadata = message.Metadata{}
		}
		messages = append(messages, msg)
	}
	return messages, nil
}
