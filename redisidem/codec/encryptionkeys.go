package codec

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
)

// ReadEncryptionKeys reads keys for [NewEncryption] from a file, which has one on each line: an ID,
// a space, and 32 bytes in base64. Empty lines and lines that begin with # are left out. Its errors
// name the file and the line, and do not contain what it has read, which may be a secret. A file
// without keys, and one with another line, is an error that matches [redisidem.ErrInvalid].
func ReadEncryptionKeys(file string) ([]EncryptionKey, error) {
	const size = 32
	text, err := os.ReadFile(file) //nolint:gosec // the caller names it
	if err != nil {
		return nil, err
	}
	var keys []EncryptionKey
	number := 0
	for line := range bytes.Lines(text) {
		number++
		words := strings.Fields(string(line))
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		var secret []byte
		if len(words) == 2 {
			secret, err = base64.StdEncoding.DecodeString(words[1])
		}
		if len(words) != 2 || err != nil || len(secret) != size {
			return nil, invalid(fmt.Sprintf("%s:%d", file, number), "must be an ID, a space, and %d bytes in base64", size)
		}
		keys = append(keys, EncryptionKey{ID: words[0], Secret: secret})
	}
	if len(keys) == 0 {
		return nil, invalid(file, "has no keys")
	}
	return keys, nil
}
