package exotel

import (
	"bytes"
	"slices"
	"strings"

	"github.com/caly-dev/caly/internal/bounded"
)

// Claim is whom a request says that it is about. Nothing of it is proven.
type Claim struct {
	AccountSID string
	// PhoneNumbers that may be the ExoPhone, in groups. The first group with a known number decides.
	PhoneNumbers [][]string
}

// claimFields are the only fields that a claim is read from.
var claimFields = map[field]bool{fieldAccountSID: true, fieldExoPhone: true, fieldTo: true, fieldFrom: true}

// claimNames are their spellings, both as a form writes them and as nested JSON does.
var claimNames = namesOf(claimFields)

func namesOf(fields map[field]bool) bounded.Names {
	top := bounded.Names{}
	for name, p := range places {
		if !fields[p.field] {
			continue
		}
		top[name] = &bounded.Members{Names: bounded.Names{}}
	}
	for name, p := range places {
		at := top
		for word := range strings.SplitSeq(name, ".") {
			if !fields[p.field] {
				break
			}
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

// maxClaimNumbers bounds each group of a claim's numbers.
const maxClaimNumbers = 64

// ReadClaim reads what names the account or the called number, in the first 64 KiB of the body. Nothing else is read,
// since nobody has verified the request yet. Every number counts, and of several accounts the one that ParseEvent
// returns. Of a list it is the claim of the first event alone.
func ReadClaim(r Request) Claim {
	r.Body = r.Body[:min(len(r.Body), maxClaimBody)]
	r = decoded(r)
	if r.isList() {
		_, r.Body, _ = bytes.Cut(r.Body, []byte("[")) // reading ends after the first event
		r.ContentType = mediaJSON
	}
	in := readInput(r, claimNames)
	var found [fieldCount][]text
	add := func(name, sent string) {
		place, known := places[foldName(name)]
		if sent = strings.TrimSpace(sent); known && !isNothing(sent) {
			found[place.field] = append(found[place.field], text{unquote(sent), name, place.rank})
		}
	}
	for name, sent := range in.params {
		add(name, sent)
	}
	for _, t := range in.repeated {
		add(t.name, t.value)
	}
	var account text
	for _, t := range found[fieldAccountSID] {
		if account.name == "" || t.rank < account.rank ||
			t.rank == account.rank && prefers(false, t.value, account.value) {
			account = t
		}
	}
	return Claim{
		AccountSID: account.value,
		PhoneNumbers: [][]string{numbers(found[fieldExoPhone]),
			numbers(found[fieldTo], found[fieldFrom])},
	}
}

// numbers returns the numbers of fields, each once, in the order of the fields and their spellings.
func numbers(fields ...[]text) []string {
	var list []string
	for _, of := range fields {
		slices.SortFunc(of, text.compare)
		for _, t := range of {
			for _, number := range E164(t.value) {
				if len(list) < maxClaimNumbers && !slices.Contains(list, number) {
					list = append(list, number)
				}
			}
		}
	}
	return list
}
