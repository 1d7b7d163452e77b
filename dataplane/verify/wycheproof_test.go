package verify_test

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // HMAC with SHA-1 stands
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/caly-dev/caly/dataplane/verify"
)

// A few of Project Wycheproof's vectors for HMAC (testvectors_v1/hmac_sha1_test.json and hmac_sha256_test.json), by
// their tcId; each sum was computed again from its key and message. Wycheproof accepts cut sums, this package refuses
// them.
func TestWycheproofVectors(t *testing.T) {
	const (
		sha1Key    = "000102030405060708090a0b0c0d0e0f10111213"
		sha256Key  = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
		counting16 = "000102030405060708090a0b0c0d0e0f"
	)
	for name, tc := range map[string]struct {
		scheme, key, msg, tag string
		want                  bool
	}{
		"SHA-1, 17": {
			sha1Scheme,
			"33e9140175519b2f1619b44848331763c756fad4",
			"7de0fccc83b51c29e5eb1b658c102438",
			"34de6b8f479523870b8f905684672617669b0607",
			true,
		},
		"SHA-1, 160, short key": {sha1Scheme, "f5c2c420c6f056467fca", "bc8a29f52e57581cb89a86e5d644a14d",
			"1eb76df7235c52371d86113f5423628b2eb7c3d5", true},
		"SHA-1, 167, long key": {sha1Scheme,
			"6e6c43df9bb6c6b8fe414a183e738508f0aca41d5beef6df1b260c39e1979b54" +
				"683622a4d53354231bef6c35e129f85f822ba09198aa30c65ee60e4202de8cd102",
			"98f0a4b9a36e173d89730a3b370777c499b4cff2846f50bfb88fbbbc547cbae4",
			"d1653c90fc591e3a3c285a3be8b12ca9b2121e88", true},
		"SHA-1, 29, bit 0 flipped": {
			sha1Scheme,
			sha1Key,
			counting16,
			"e5641600cedd7e12063deaea0788785f56113520",
			false,
		},
		"SHA-1, 67, bits 0 and 64 flipped": {
			sha1Scheme,
			sha1Key,
			counting16,
			"e5641600cedd7e12073deaea0788785f56113520",
			false,
		},
		"SHA-1, 73, all bits flipped": {
			sha1Scheme,
			sha1Key,
			counting16,
			"1b9be9ff312281edf9c21515f87787a0a9eecadf",
			false,
		},
		"SHA-1, 75, all zero": {
			sha1Scheme,
			sha1Key,
			counting16,
			"0000000000000000000000000000000000000000",
			false,
		},
		"SHA-1, 77, all one": {
			sha1Scheme,
			sha1Key,
			counting16,
			"ffffffffffffffffffffffffffffffffffffffff",
			false,
		},
		"SHA-1, 163, cut to 80 bits": {
			sha1Scheme,
			"23082066e8c45da82fc6",
			"06c19c6ee4d2f015769f6d46eb46d6b4",
			"747cd928e8831917c855",
			false,
		},
		"SHA-256, 17": {sha256Scheme, "6fa353868c82e5deeedac7f09471a61bf749ab5498239e947e012eee3c82d7c4",
			"aeed3e4d4cb9bbb60d482e98c126c0f5",
			"9ed7f0e73812a27a87a3808ee0c89a6456499e835974ba57c5aab2a0d8c69e93", true},
		"SHA-256, 164, short key": {sha256Scheme, "ac686ba0f1a51b4ec4f0b30492b7f556",
			"2fa43a14ae500507deb95ab5bd32b0fe",
			"008532a53d0c0ab22027ae249023375374e2239b959609e8339b05a15742a675", true},
		"SHA-256, 171, long key": {sha256Scheme,
			"21178e26bc28ffc27c06f762ba190a627075856d7ca6feab79ac63149b17126e" +
				"34fd9e5590e0e90aac801df09505d8af2dd0a2703b352c573ac9d2cb063927f2af",
			"7d5f1d6b993452b1b53a4375760d10a20d46a0ab9ec3943fc4b07a2ce735e731",
			"e542ac8ac8f364bae4b7da8b7a0777df350f001de4e8cfa2d9ef0b15019496ec", true},
		"SHA-256, 29, bit 0 flipped": {
			sha256Scheme,
			sha256Key,
			counting16,
			"d9b99f2709a3ca74172cbe93824c1f29b23a0c1e9c21bd851ff2d2c39dbef14e",
			false,
		},
		"SHA-256, 67, bits 0 and 64 flipped": {
			sha256Scheme,
			sha256Key,
			counting16,
			"d9b99f2709a3ca74162cbe93824c1f29b23a0c1e9c21bd851ff2d2c39dbef14e",
			false,
		},
		"SHA-256, 73, all bits flipped": {
			sha256Scheme,
			sha256Key,
			counting16,
			"274660d8f65c358be8d3416c7db3e0d64dc5f3e163de427ae00d2d3c62410eb1",
			false,
		},
		"SHA-256, 75, all zero": {
			sha256Scheme,
			sha256Key,
			counting16,
			"0000000000000000000000000000000000000000000000000000000000000000",
			false,
		},
		"SHA-256, 77, all one": {
			sha256Scheme,
			sha256Key,
			counting16,
			"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
			false,
		},
		"SHA-256, 167, cut to 128 bits": {
			sha256Scheme,
			"e09eaa5a3f5e56d279d5e7a03373f6ea",
			"ef4eab37181f98423e53e947e7050fd0",
			"cfc19ec07902ec8be489606d8f40d172",
			false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			key := string(unhex(t, tc.key))
			msg := string(unhex(t, tc.msg))
			if verdict := verify.Verify(
				signatureOf(tc.scheme, key), post(msg, "X-Exotel-Signature", tc.tag),
			); verdict.OK != tc.want ||
				!tc.want && verdict.Reason != verify.ReasonWrongSignature {
				t.Errorf("the vector was judged %+v, want OK %t", verdict, tc.want)
			}
			// It is the tag that was refused: with the right one the message gets through.
			if verdict := verify.Verify(
				signatureOf(tc.scheme, key), post(msg, "X-Exotel-Signature", sum(tc.scheme, key, msg)),
			); !verdict.OK {
				t.Errorf("with the right tag it was judged %+v", verdict)
			}
		})
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sum(scheme, key, msg string) string {
	mac := hmac.New(sha1.New, []byte(key))
	if scheme == sha256Scheme {
		mac = hmac.New(sha256.New, []byte(key))
	}
	_, _ = mac.Write([]byte(msg)) // never fails
	return hex.EncodeToString(mac.Sum(nil))
}
