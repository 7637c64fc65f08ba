package effect

import (
	"encoding/json"
	"fmt"
	"time"
)

// stored is an effect in JSON. Keys and words are bytes, because JSON would change those that are
// not UTF-8.
type stored struct {
	Command string        `json:"command"`
	Key     []byte        `json:"key"`
	Words   [][]byte      `json:"words"`
	Expiry  time.Duration `json:"expiry,omitempty"`
	Expires bool          `json:"expires,omitempty"`
	MaxLen  int64         `json:"max_len,omitempty"`
}

// keyTypes has the type of the key of each command.
var keyTypes = map[string]string{
	"SET": "string", "INCRBY": "string", "HSET": "hash", "SADD": "set", "ZADD": "zset", "LPUSH": "list", "XADD": "stream",
	"PUBLISH": "",
}

// MarshalJSON implements [json.Marshaler], for programs that store an effect until it is applied.
// An invalid effect returns the error of [Effect.Err].
func (e Effect) MarshalJSON() ([]byte, error) {
	if err := e.Err(); err != nil {
		return nil, err
	}
	s := stored{Command: e.command, Key: []byte(e.key), Expiry: e.expiry, Expires: e.expires, MaxLen: e.maxLen}
	for _, w := range e.words {
		s.Words = append(s.Words, []byte(w))
	}
	return json.Marshal(s)
}

// UnmarshalJSON implements [json.Unmarshaler]: it reads what MarshalJSON wrote.
func (e *Effect) UnmarshalJSON(b []byte) error {
	var s stored
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	keyType, known := keyTypes[s.Command]
	if !known {
		return fmt.Errorf("effect: unknown command %q", s.Command)
	}
	read := Effect{command: s.Command, keyType: keyType, key: string(s.Key), expiry: s.Expiry, expires: s.Expires, maxLen: s.MaxLen}
	for _, w := range s.Words {
		read.words = append(read.words, string(w))
	}
	if err := read.Err(); err != nil {
		return fmt.Errorf("effect: %w", err)
	}
	*e = read
	return nil
}
