// Package reason has the words that say why something did not work as wanted: why an event is dead, why a field was
// left out, why a recording is not uploaded, why a capture is short or failed. The parser, the store, metrics and docs
// use these constants. The words are stored in PostgreSQL and are labels of metrics, so a word never changes.
package reason
