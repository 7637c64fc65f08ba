// Package codec has codecs for the values of records: encryption, compression, and both in a chain.
// Set one as [redisidem.Config].Codec. All services that work on the same keys need a codec that
// decodes what the others encode.
package codec
