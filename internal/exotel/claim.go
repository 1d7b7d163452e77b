package exotel

import (
	"cmp"
	"slices"
	"strings"

	"github.com/caly-dev/caly/internal/bounded"
)

// Claim is whom a request says that it is about. Nothing of it is proven.
type Claim struct {
	AccountSID string
	// PhoneNumbers that may be the ExoPhone, in groups: the first group of which one number is known decides.
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

// ReadClaim reads what names the account or the called number, in the first 64 KiB of the body. Nothing else is read,
// since nobody has verified the request yet.
func ReadClaim(r Request) Claim {
	r.Body = r.Body[:min(len(r.Body), maxClaimBody)]
	var found [fieldCount][]text
	for name, sent := range readInput(r, claimNames).params {
		p, known := places[foldName(name)]
		if sent = strings.TrimSpace(sent); known && !isNothing(sent) {
			found[p.field] = append(found[p.field], text{sent, name, p.rank})
		}
	}
	claim := Claim{PhoneNumbers: [][]string{numbers(found[fieldExoPhone]),
		numbers(found[fieldTo], found[fieldFrom])}}
	if accounts := inOrder(found[fieldAccountSID]); len(accounts) > 0 {
		claim.AccountSID = accounts[0].value
	}
	return claim
}

// inOrder sorts spellings of one field.
func inOrder(list []text) []text {
	slices.SortFunc(list, func(a, b text) int {
		return cmp.Or(int(a.rank)-int(b.rank), strings.Compare(a.name,
			b.name))
	})
	return list
}

func numbers(fields ...[]text) []string {
	var list []string
	for _, of := range fields {
		for _, t := range inOrder(of) {
			list = append(list, E164(t.value)...)
		}
	}
	return list
}
