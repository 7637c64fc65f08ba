package watermillidem

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/redisidem/redisidem/redisidem"
)

// produced is a message that a handler has returned, as it is stored. The UUID and the metadata may
// have any bytes, and JSON keeps only text: other bytes are escaped, as in paths of URLs.
type produced struct {
	UUID     string            `json:"uuid"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Payload  []byte            `json:"payload"`
}

// encode returns the messages of a handler in the form in which they are stored.
func encode(messages []*message.Message) redisidem.Response {
	stored := make([]produced, len(messages))
	for i, msg := range messages {
		metadata := make(map[string]string, len(msg.Metadata))
		for name, value := range msg.Metadata {
			metadata[url.PathEscape(name)] = url.PathEscape(value)
		}
		stored[i] = produced{url.PathEscape(msg.UUID), metadata, msg.Payload}
	}
	return redisidem.JSON(0, stored)
}

// decode returns the messages that an earlier delivery has stored.
func decode(r *redisidem.Response) ([]*message.Message, error) {
	if r.IsZero() {
		return nil, nil // the key was finished by hand
	}
	var stored []produced
	if err := json.Unmarshal(r.Body, &stored); err != nil {
		return nil, fmt.Errorf("%w: messages of an earlier delivery: %w", redisidem.ErrOtherType, err)
	}
	messages := make([]*message.Message, len(stored))
	for i, p := range stored {
		msg, err := p.message()
		if err != nil {
			return nil, fmt.Errorf("%w: messages of an earlier delivery: %w", redisidem.ErrOtherType, err)
		}
		messages[i] = msg
	}
	return messages, nil
}

// message returns the message that the handler had returned.
func (p *produced) message() (*message.Message, error) {
	uuid, err := url.PathUnescape(p.UUID)
	msg := message.NewMessage(uuid, p.Payload)
	for name, value := range p.Metadata {
		n, nameErr := url.PathUnescape(name)
		v, valueErr := url.PathUnescape(value)
		err = errors.Join(err, nameErr, valueErr)
		msg.Metadata[n] = v
	}
	return msg, err
}
