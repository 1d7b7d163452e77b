package exotel

import "strings"

// accountNames are the spellings of an account's id.
var accountNames = []string{"AccountSid", "AccountSID", "ExotelAccountSid", "account_sid", "data[account_sid]", "event_data[data][account_sid]"}

// Claim is whom a request says that it is about. Nothing of it is proven.
type Claim struct {
	AccountSID string
	// PhoneNumbers that may be the ExoPhone, in groups: the first group of which one number is known decides.
	PhoneNumbers [][]string
}

// ReadClaim reads what names the account or the called number. Errors are *ParseError.
func ReadClaim(r Request) (Claim, error) {
	p, err := parseParams(r)
	if err != nil {
		return Claim{}, err
	}
	return Claim{AccountSID: p.first(accountNames...), PhoneNumbers: [][]string{
		p.numbers("PhoneNumberSid", "data[exophone]", "event_data[data][exophone]"),
		p.numbers("To", "CallTo", "From", "CallFrom"),
	}}, nil
}

func (p params) numbers(names ...string) []string {
	var list []string
	for _, n := range names {
		list = append(list, E164(p.first(n))...)
	}
	return list
}

// E164 is a number as Exotel writes it, with each country's prefix that it may be short of: national with a leading 0 or ten
// digits mean India, and a plus sign becomes a space in a query that was not escaped.
func E164(number string) []string {
	digits := strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r == '+':
			return r
		case strings.ContainsRune(" -().", r):
			return -1
		}
		return 'x' // no telephone number: sip:someone@example.com
	}, number)
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
