package loopback

import "testing"

func TestHost(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.8.8.8": true, "::1": true, "::ffff:127.0.0.1": true, "localhost": true, "LocalHost": true,
		"": false, "0.0.0.0": false, "::": false, "10.0.0.1": false, "example.org": false, "localhost.example.org": false, "127.0.0.1:80": false, "[::1]": false,
	} {
		if Host(host) != want {
			t.Errorf("Host(%q) is %t", host, !want)
		}
	}
}
