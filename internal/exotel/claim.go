package exotel

import (
	"slices"
	"strings"

	"github.com/caly-dev/caly/internal/bounded"
)

// accountNames are the spellings of an account's id.
var accountNames = []string{"AccountSid", "AccountSID", "ExotelAccountSid", "account_sid", "data[account_sid]", "event_data[data][account_sid]"}

// Claim is whom a request says that it is about. Nothing of it is proven.
type Claim struct {
	AccountSID string
	// PhoneNumbers that may be the ExoPhone, in groups: the first group of which one number is known decides.
	PhoneNumbers [][]string
}

// exoPhoneNames and partyNames are the spellings of numbers that may be the ExoPhone: those that say so, then those
// of the call's two ends.
var (
	exoPhoneNames = []string{"PhoneNumberSid", "data[exophone]", "event_data[data][exophone]"}
	partyNames    = []string{"To", "CallTo", "From", "CallFrom"}
)

// claimNames are the only fields that a claim is read from.
var claimNames = namesOf(accountNames, exoPhoneNames, partyNames)

// namesOf returns the names of fields for a reader, both as a form writes them and as nested JSON does.
func namesOf(lists ...[]string) bounded.Names {
	top := bounded.Names{}
	for _, name := range slices.Concat(lists...) {
		top[name] = &bounded.Members{Names: bounded.Names{}}
		at := top
		for word := range strings.SplitSeq(strings.ReplaceAll(name, "]", ""), "[") {
			if at[word] == nil {
				at[word] = &bounded.Members{Names: bounded.Names{}}
			}
			at = at[word].Names
		}
	}
	return top
}

// maxClaimBody is how much of a body a claim is read from, in bytes.
const maxClaimBody = 64 << 10

// ReadClaim reads what names the account or the called number, in the first 64 KiB of the body. Nothing else is read,
// since nobody has verified the request yet. Errors are *ParseError.
func ReadClaim(r Request) (Claim, error) {
	whole := len(r.Body)
	r.Body = r.Body[:min(whole, maxClaimBody)]
	p, err := parseParams(r, claimNames)
	if err != nil && (p == nil || len(r.Body) == whole) {
		return Claim{}, err
	}
	return Claim{AccountSID: p.first(accountNames...), PhoneNumbers: [][]string{p.numbers(exoPhoneNames...),
		p.numbers(partyNames...)}}, nil
}

func (p params) numbers(names ...string) []string {
	var list []string
	for _, n := range names {
		list = append(list, E164(p.first(n))...)
	}
	return list
}

// SameNumber returns one spelling for all telephone numbers in E.164 that E164 returns for a common text. Ten digits
// are read with and without India's prefix, so +918047491899 and +8047491899 are the same number here: the owner of
// one of them must own the other.
func SameNumber(e164 string) string {
	if digits := strings.TrimPrefix(e164, "+"); len(digits) == 10 && digits[0] != '0' {
		return "+91" + digits
	}
	return e164
}

// E164 is a number as Exotel writes it, with each country's prefix that it may be short of: national with a leading 0 or ten
// digits mean India, and a plus sign becomes a space in a query that was not escaped.
func E164(number string) []string {
	digits := strings.Map(dialable, number)
	international := strings.HasPrefix(digits, "+")
	if rest, ok := strings.CutPrefix(digits, "00"); ok {
		digits, international = rest, true
	}
	digits = strings.TrimPrefix(digits, "+")
	switch {
	case strings.Trim(digits, "0123456789") != "" || len(digits) < 7 || len(digits) > 15:
		return nil
	case international:
		return []string{"+" + digits}
	case len(digits) == 11 && digits[0] == '0':
		return []string{"+91" + digits[1:]}
	case digits[0] == '0':
		return nil
	case len(digits) == 10:
		return []string{"+91" + digits, "+" + digits}
	}
	return []string{"+" + digits}
}
