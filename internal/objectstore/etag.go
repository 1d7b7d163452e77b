package objectstore

import (
	"crypto/md5" //nolint:gosec // it is what an ETag is
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// isMultipart tells an ETag of an upload in parts, "<hex>-<parts>", from others.
func isMultipart(etag string) bool { return strings.Contains(etag, "-") }

// PartETag computes the ETag that an object uploaded in parts of PartSize has, from the stream written to it.
type PartETag struct {
	part   hash.Hash
	inPart int
	sums   []byte
	parts  int
}

// NewPartETag returns an empty one.
func NewPartETag() *PartETag { return &PartETag{part: md5.New()} } //nolint:gosec // see above

// Write never fails.
func (p *PartETag) Write(data []byte) (int, error) {
	n := len(data)
	for len(data) > 0 {
		take := min(len(data), PartSize-p.inPart)
		p.part.Write(data[:take])
		p.inPart += take
		data = data[take:]
		if p.inPart == PartSize {
			p.endPart()
		}
	}
	return n, nil
}

func (p *PartETag) endPart() {
	p.sums = p.part.Sum(p.sums)
	p.part.Reset()
	p.inPart = 0
	p.parts++
}

// ETag ends the stream and returns its ETag. Nothing may be written after it.
func (p *PartETag) ETag() string {
	if p.inPart > 0 || p.parts == 0 {
		p.endPart()
	}
	sum := md5.Sum(p.sums) //nolint:gosec // see above
	return fmt.Sprintf("%s-%d", hex.EncodeToString(sum[:]), p.parts)
}
