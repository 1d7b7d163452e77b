package exotel

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadClaim(t *testing.T) {
	for name, tc := range map[string]struct {
		req  Request
		want Claim
	}{
		"account": {form("AccountSid=acme1"), Claim{
			AccountSID:   "acme1",
			PhoneNumbers: [][]string{nil, nil},
		}},
		"account of a leg": {leg(legSample, ""), Claim{
			AccountSID:   "acme1",
			PhoneNumbers: [][]string{{"+918047491899"}, nil},
		}},
		"account in a query": {Request{
			Method:   "GET",
			RawQuery: "AccountSid=acme1",
		}, Claim{
			AccountSID:   "acme1",
			PhoneNumbers: [][]string{nil, nil},
		}},
		"ExoPhone first": {form("PhoneNumberSid=08047491899&To=09123456789&From=09876543210"),
			Claim{PhoneNumbers: [][]string{{"+918047491899"}, {"+919123456789", "+919876543210"}}}},
		"passthru": {Request{Method: "GET", RawQuery: "CallFrom=09876543210&CallTo=08047491899"},
			Claim{PhoneNumbers: [][]string{nil, {"+918047491899", "+919876543210"}}}},
		"early in a large form": {form("AccountSid=acme1&x=" + strings.Repeat("a=1&", 1<<18)), Claim{
			AccountSID:   "acme1",
			PhoneNumbers: [][]string{nil, nil},
		}},
		"early in large JSON": {Request{
			ContentType: "application/json",
			Body: []byte(`{"AccountSid":"acme1","x":"` +
				strings.Repeat("a", 1<<20) + `"}`),
		},
			Claim{AccountSID: "acme1", PhoneNumbers: [][]string{nil, nil}}},
		"multipart": {multi(t, "x", strings.Repeat("a", maxValue+1), "AccountSid", "acme1"), Claim{
			AccountSID:   "",
			PhoneNumbers: [][]string{nil, nil},
		}},
		"next to a broken field": {form("CustomField=50%+off&AccountSid=acme1&To=a;b"), Claim{
			AccountSID:   "acme1",
			PhoneNumbers: [][]string{nil, nil},
		}},
		"broken": {form("AccountSid=%zz&To=08047491899"), Claim{PhoneNumbers: [][]string{nil,
			{"+918047491899"}}}},
		"in another case": {Request{
			ContentType: "application/json",
			Body:        []byte(`{"accountsid":"acme1","Call":{"TO":"0918047491899"}}`),
		},
			Claim{AccountSID: "acme1", PhoneNumbers: [][]string{nil, {"+918047491899"}}}},
		"notification of an outbound call": {Request{
			ContentType: "application/json",
			Body: []byte(`{"ExotelAccountSid":"acme1","VirtualNumber":"+912235511457","ToNumber":"07251937261",` +
				`"FromNumber":"08789489697"}`),
		},
			Claim{
				AccountSID: "acme1",
				PhoneNumbers: [][]string{{"+912235511457"}, {"+917251937261",
					"+918789489697"}},
			}},
		"Voice v3": {Request{
			ContentType: "application/json",
			Body:        []byte(`{"call_details":{"virtual_number":"08047491899"}}`),
		},
			Claim{PhoneNumbers: [][]string{{"+918047491899"}, nil}}},
		"a number twice": {form("CallTo=08047491899&CallTo=9876543210"), Claim{PhoneNumbers: [][]string{nil,
			{"+918047491899", "+919876543210", "+9876543210"}}}},
		"in quotes": {form(`AccountSid="acme1"&CallTo="08047491899"`), Claim{
			AccountSID:   "acme1",
			PhoneNumbers: [][]string{nil, {"+918047491899"}},
		}},
		"a number of a campaign": {form("campaign_sid=x&number=08047491899"), Claim{PhoneNumbers: [][]string{nil,
			nil}}},
		"nothing": {form("CallSid=c1&To=sip:bot@example.com"), Claim{PhoneNumbers: [][]string{nil, nil}}},
	} {
		if diff := cmp.Diff(tc.want, ReadClaim(tc.req)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	late := form("x=" + strings.Repeat("a", maxClaimBody) + "&AccountSid=acme1")
	if got := ReadClaim(late); got.AccountSID != "" {
		t.Errorf("a name after the first 64 KiB is read: %+v", got)
	}
}

// TestClaimOfRepeatedAccount checks that the claim and the event name the same account.
func TestClaimOfRepeatedAccount(t *testing.T) {
	for _, fields := range []string{"AccountSid=acme10&AccountSid=b1", "AccountSid=b1&AccountSid=acme10",
		"AccountSid=b1&account_sid=acme10", "ExotelAccountSid=longest1&AccountSid=b1&accountsid=acme10",
		`AccountSid="acme10"&AccountSid=b1`, "AccountSid=null&AccountSid=b1", "data[AccountSid]=b1&AccountSid="} {
		event, err := ParseEvent(KindStatus, form("CallSid=c1&"+fields), ist)
		if err != nil {
			t.Fatal(err)
		}
		if got := ReadClaim(form(fields)).AccountSID; got != event.AccountSID || got == "" {
			t.Errorf("%s: the claim is of %q, the event of %q", fields, got, event.AccountSID)
		}
	}
}

// TestClaimOfManyNumbers checks that a claim is bounded, and the same whatever the order of its numbers.
func TestClaimOfManyNumbers(t *testing.T) {
	var fields []string
	for i := range maxClaimNumbers + 50 {
		fields = append(fields, fmt.Sprintf("CallTo=08047490%03d", i))
	}
	want := ReadClaim(form(strings.Join(fields, "&")))
	if n := len(want.PhoneNumbers[1]); n != maxClaimNumbers {
		t.Errorf("%d numbers, want %d", n, maxClaimNumbers)
	}
	slices.Reverse(fields)
	if diff := cmp.Diff(want, ReadClaim(form(strings.Join(fields, "&")))); diff != "" {
		t.Errorf("in another order (-want +got):\n%s", diff)
	}
}

func TestE164(t *testing.T) {
	for number, want := range map[string][]string{
		"+918047491899":      {"+918047491899"},
		"08047491899":        {"+918047491899"},
		"8047491899":         {"+918047491899", "+8047491899"},
		"918047491899":       {"+918047491899"},
		" 918047491899":      {"+918047491899"}, // a plus sign in a query that was not escaped
		"00918047491899":     {"+918047491899"},
		"+91 80-4749 (1899)": {"+918047491899"},
		"+6581234567":        {"+6581234567"},
		"6581234567":         {"+916581234567", "+6581234567"},
		"":                   nil,
		"0918000000100":      {"+918000000100"},
		"+0918000000100":     {"+918000000100"},
		"+08000000100":       {"+918000000100"},
		"+9108000000100":     {"+918000000100"},
		"00918000000100":     {"+918000000100"},
		"000918000000100":    {"+918000000100"},
		"0091080000001":      {"+91080000001"},
		"12345":              nil,
		"sip:08047491899":    nil,
		"0XXXXXX4890":        nil,
		"080474918990":       nil,
		"+91+8047491899":     nil,
		"1234567890123456":   nil,
		"०८०४७४९१८९९":        nil,
	} {
		if diff := cmp.Diff(want, E164(number)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", number, diff)
		}
	}
}
