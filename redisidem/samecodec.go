package redisidem

import (
	"context"
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

const (
	// sampledRecords is how many records are looked at for how their values are encoded, and
	// sampledSteps how many steps of a scan may look for them: a server may have many other keys.
	sampledRecords = 100
	sampledSteps   = 20
	// sampledBodies is how many of them are read with their large values.
	sampledBodies = 8
)

// The fields whose values go through Config.Codec, with what decoding them needs. The first are
// small as a rule.
var (
	smallEncodedFields = []string{fieldFingerprint, fieldCode, fieldLastFailure, fieldHeaders}
	encodedFields      = append([]string{fieldParams, fieldState, fieldBody}, smallEncodedFields...)
)

// encodings says how the values of some records are encoded.
type encodings struct {
	plain, decoded bool  // whether there is a value without a codec, and one that was decoded
	undecoded      error // why an encoded value could not be decoded; nil if all could be
}

func (e *encodings) none() bool { return !e.plain && !e.decoded && e.undecoded == nil }

// add adds the values of a record. What is damaged otherwise says nothing.
func (e *encodings) add(v valueCodec, id identity, pairs []string) {
	fields := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		fields[pairs[i]] = pairs[i+1]
	}
	code, _ := strconv.Atoi(fields[fieldCode])
	for _, field := range []string{fieldParams, fieldState, fieldBody, fieldHeaders, fieldLastFailure} {
		stored, ok := fields[field]
		codeOf := 0
		switch field {
		case fieldBody, fieldHeaders:
			codeOf = code
		case fieldLastFailure:
			f, err := decodeFailure(stored)
			if err != nil {
				continue
			}
			stored = f.Text
		}
		switch {
		case !ok:
		case !isEncoded(stored):
			e.plain = true
		default:
			v.limit = max(v.limit, len(stored), maxFailureBytes) // the size of a value is another matter
			if _, err := v.decode(id, fields[fieldFingerprint], field, codeOf, []byte(stored)); err != nil {
				e.undecoded = err
			} else {
				e.decoded = true
			}
		}
	}
}

// checkCodec returns an error if the programs that use a key encode values otherwise than
// Config.Codec, so that they could not read what this service writes, or it would be readable for
// others. The values of the key decide. If it has none, those of a sample of the namespace do.
func (in *Inspector) checkCodec(ctx context.Context, key *KeyInfo) error {
	s := in.service
	found, err := in.encodingsOf(ctx, []identity{key.id}, encodedFields)
	if err == nil && found.none() {
		found, err = in.sampleEncodings(ctx)
	}
	switch {
	case err != nil:
		return err
	case found.decoded:
		return nil
	case found.undecoded != nil:
		why := strings.TrimPrefix(found.undecoded.Error(), ErrDamaged.Error()+": ")
		return &InvalidError{Field: "Config.Codec", Reason: "is not that of the programs: " + why, Err: found.undecoded}
	case found.plain && s.cfg.Codec != nil && !acceptsPlain(s.cfg.Codec):
		return invalid("Config.Codec", "is not that of the programs: their values are not encoded")
	}
	return nil
}

// sampleEncodings looks at some records of the namespace.
func (in *Inspector) sampleEncodings(ctx context.Context) (found encodings, err error) {
	var sample []identity
	var position protocol.Position
	for range sampledSteps {
		ids, next, err := in.scan(ctx, position)
		if err != nil {
			return found, err
		}
		sample = append(sample, ids...)
		if position = next; position.String() == "" || len(sample) >= sampledRecords {
			break
		}
	}
	sample = sample[:min(len(sample), sampledRecords)]
	found, err = in.encodingsOf(ctx, sample, smallEncodedFields)
	if err != nil || !found.none() {
		return found, err
	}
	return in.encodingsOf(ctx, sample[:min(len(sample), sampledBodies)], encodedFields)
}

// encodingsOf reads fields of records, and says how their values are encoded.
func (in *Inspector) encodingsOf(ctx context.Context, ids []identity, fields []string) (found encodings, err error) {
	if len(ids) == 0 {
		return found, nil
	}
	s := in.service
	if err := s.enter(ctx); err != nil {
		return found, err
	}
	defer s.inFlight.leave()
	read, err := s.redis.Inspect(ctx, ids, fields...)
	if err = explain(ctx, "inspect", err); err != nil {
		return found, err
	}
	for i, id := range ids {
		found.add(s.valueCodec, id, read[i].Pairs)
	}
	return found, nil
}
