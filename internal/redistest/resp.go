package redistest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
)

// readMessage reads one request or reply in either version of Redis's protocol. It returns the
// bytes unchanged. A message that does not begin like a protocol value is read as a line.
func readMessage(r *bufio.Reader) ([]byte, error) { return appendMessage(nil, r) }

func appendMessage(m []byte, r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	m = append(m, line...)
	parts := 0
	switch line[0] {
	case '$', '=', '!': // a string with that number of bytes
		size, err := length(line)
		if err != nil || size < 0 {
			return m, err
		}
		// The buffer grows as data arrives, since the length is not trusted.
		b := bytes.NewBuffer(m)
		_, err = io.CopyN(b, r, int64(size+len("\r\n")))
		return b.Bytes(), err
	case '*', '~', '>': // that number of values
		parts, err = length(line)
	case '%': // that number of pairs
		parts, err = length(line)
		parts *= 2
	case '|': // that number of pairs, which describe the value after them
		parts, err = length(line)
		parts = 2*parts + 1
	}
	for ; err == nil && parts > 0; parts-- {
		m, err = appendMessage(m, r)
	}
	return m, err
}

// length returns the number in a line like "$12\r\n". It returns -1 for the null values of the
// protocol's version 2.
func length(line []byte) (int, error) {
	const most = 1 << 30
	if len(line) < 4 {
		return 0, fmt.Errorf("redistest: no length in %q", line)
	}
	n, err := strconv.Atoi(string(line[1 : len(line)-2]))
	if err != nil || n < -1 || n > most {
		return 0, fmt.Errorf("redistest: bad length in %q", line)
	}
	return n, nil
}

// pushed reports whether a message is a push message rather than the reply to a request.
func pushed(m []byte) bool { return m[0] == '>' }
