package verify

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Headers of Standard Webhooks.
const (
	standardID        = "Webhook-Id"
	standardTimestamp = "Webhook-Timestamp"
	standardSignature = "Webhook-Signature"
)

// maxSignatures that one webhook may carry. A sender that rotates sends two.
const maxSignatures = 16

// verifyStandard verifies "id.timestamp.payload", HMAC-SHA256, in any of the signatures "v1,<base64>" of the header. An
// id with a full stop is refused, as the specification advises: an attacker who has seen one signed webhook could
// otherwise take a part of its payload for the id.
func verifyStandard(cfg *tenantconfig.StandardWebhooks, r *Request) finding {
	id, noID := only(r.Header, standardID)
	stamp, noStamp := only(r.Header, standardTimestamp)
	signatures, noSignature := only(r.Header, standardSignature)
	signed := payload(r)
	sums := standardSums(signatures)
	dot := []byte(".")
	match := schemes[tenantconfig.SchemeHMACSHA256].matches(
		cfg.Secrets, sums, []byte(id), dot, []byte(stamp), dot, signed.parts[0],
	)
	stale := checkTimestamp(stamp, cfg.Tolerance, r.Now)
	switch {
	case noID && noStamp && noSignature:
		return lacks(ReasonMissingStandard)
	case id == "" || strings.Contains(id, ".") || len(sums) == 0:
		return refuse(ReasonWrongStandard)
	case stale == ReasonBadTimestamp:
		return refuse(stale)
	case !match:
		return refuse(ReasonWrongStandard)
	case stale != "": // only who can sign is told of the time
		return refuse(stale)
	}
	return signed.accepted()
}

// identified is an accepted finding whose digest is that of the webhook's id. The id is signed, and a sender keeps it
// when it sends an event again, with another time or in other bytes.
func (f finding) identified(r *Request) finding {
	if f.refusal == "" {
		sum := sha256.Sum256([]byte(standardID + ": " + r.Header.Get(standardID)))
		f.digest = sum[:]
		f.whole = false
	}
	return f
}

// standardSums are the sums of the header's signatures of version 1; others, such as the asymmetric v1a, are passed over. None
// if there are too many of them.
func standardSums(header string) (sums [][]byte) {
	for s := range strings.SplitSeq(header, " ") {
		encoded, ok := strings.CutPrefix(s, "v1,")
		if !ok {
			continue
		}
		sum, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err == nil && len(sum) == sha256.Size && len(encoded) == base64.StdEncoding.EncodedLen(sha256.Size) {
			sums = append(sums, sum)
		}
		if len(sums) > maxSignatures {
			return nil
		}
	}
	return sums
}
