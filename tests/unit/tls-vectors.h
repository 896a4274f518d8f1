/* SPDX-License-Identifier: Apache-2.0 */
/* Written by tls-vectors.py from the specifications. */
/* clang-format off */
static const struct tls_vector {
	bool made_by_hosts; /* what our host would offer; others are only taken */
	const char *key, *hostnqn, *subnqn, *identity, *psk; /* psk: hexadecimal */
} tls_vectors[] = {
	{
		.made_by_hosts = 1,
		.key = "NVMeTLSkey-1:00:/48JP26/w/Ly1nnICWgKrcl34lwhZUIWIplI86Bkx/rW7o2h:",
		.hostnqn = "nqn.2026-01.example:host",
		.subnqn = "nqn.2026-01.example:subsystem",
		.identity = "NVMe1R01 nqn.2026-01.example:host nqn.2026-01.example:subsystem osA/q3Kf9/qtLY4kZ8gaYHWPU4GnIMyx"
			"GOfBQvgz9us=",
		.psk = "e86ce72c40039580082849ee2fab48a06bc0d269eee59cdb470ac6563888531e",
	},
	{
		.made_by_hosts = 1,
		.key = "NVMeTLSkey-1:00:/2Ku4kxV/+8X6QlC3sSLgNoAgsYpdnW3to+o1uxHPgQb6WbUEltyutDqhs+9P+odEO1Sig==:",
		.hostnqn = "nqn.2026-01.example:host",
		.subnqn = "nqn.2026-01.example:subsystem",
		.identity = "NVMe1R02 nqn.2026-01.example:host nqn.2026-01.example:subsystem mTafEFZLOr/xc2eJ3KYtFRl7cGQ6ga8P"
			"H1N1rQ4EEQsigBfprDzYrcSURf2jrxf5",
		.psk = "80fbe6c6f3b4440f00ae2839fe67c56d86d11e97e148183211cd8e6f1a60e45d190acd462536ba67e3cb3b0dd8253cf3",
	},
	{
		.made_by_hosts = 1,
		.key = "NVMeTLSkey-1:01:B9Yv0Nw7Kc24BCcX77vXgSUU+RP8EHJtNjGrr6Ge+apAcsCO:",
		.hostnqn = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555",
		.subnqn = "nqn.2026-01.io.penstock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa",
		.identity = "NVMe1R01 nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555 nqn.2026-01.io.pen"
			"stock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa PWl/gOvV6Ef+JOXA/ja0g1Qx+5Eh49uituaLVLBR5KA=",
		.psk = "f8d7c54ec733e3ac7a491e9408238e4b82199716e5909afa1e8e6d166d354425",
	},
	{
		.made_by_hosts = 1,
		.key = "NVMeTLSkey-1:02:0q06nK8Cy9QkiDiHxwWC42+GZQrKX3561IgNin+6WgxJz6jvWp06FkEAzBqUCt3Vms3NiQ==:",
		.hostnqn = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555",
		.subnqn = "nqn.2026-01.io.penstock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa",
		.identity = "NVMe1R02 nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555 nqn.2026-01.io.pen"
			"stock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa F1NTmHOLE/MM3jtEsQjkmIuULtAR56ppNgy0iCwurzjyu61Q"
			"fUDoLKnIcnIS4WbV",
		.psk = "83029624670b65935d4c1da042bbd706714c175d3754f66c884abdd86c1e87df25fa65431e3e71a32a06ec1f228989d7",
	},
	{
		.made_by_hosts = 1,
		.key = "NVMeTLSkey-1:01:pwStzv6kKo/0RRTbOWtEFQYah16Sfu6rs5BypvMNFxv/5Xcr:",
		.hostnqn = "nqn.2026-01.example:hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
			"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
			"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh",
		.subnqn = "nqn.2026-01.example:ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"
			"ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"
			"sssssssssssssssssssssssssssssss",
		.identity = "NVMe1R01 nqn.2026-01.example:hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
			"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
			"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh nqn.2026-01.example:sssssssssssssssssssssssssssssssssss"
			"ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"
			"ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss 8znCc0+NRoLzN/97h9Vq7OW"
			"BZCFI5XC1xnVIbbGhn60=",
		.psk = "a9b458f4dbf7360514f88d46ffc35ac0a99e0b110d2ac65799d9b7a834d18eb2",
	},
	{
		.made_by_hosts = 1,
		.key = "NVMeTLSkey-1:02:IdtkvBlYYGMO/mlZnYLUvtIP9ARjRV0qGdNX/ZRjBjs87lRSv2hdfOvrhyV0eH3gglkuNg==:",
		.hostnqn = "nqn.2026-01.example:hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
			"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
			"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh",
		.subnqn = "nqn.2026-01.example:ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"
			"ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"
			"sssssssssssssssssssssssssssssss",
		.identity = "NVMe1R02 nqn.2026-01.example:hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
			"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
			"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh nqn.2026-01.example:sssssssssssssssssssssssssssssssssss"
			"ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"
			"ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss 5QqkCwzucOFOy+p/JxVqiBz"
			"IAyiF5gYzkD4V6qAv3e7gDVSBatWxv07t1bUPL6RG",
		.psk = "850e3faae64bc52ebca4123b99880e03ffbfe612f062dcac647370bf084ccd5418ef3ec8ae7a7d34d18340a7f0b51283",
	},
	{
		.made_by_hosts = 0,
		.key = "NVMeTLSkey-1:00:sRWxPsTVexQA1hpq6QrxGv6fzhz3SC1qRR9961e6GTPaGVJx:",
		.hostnqn = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555",
		.subnqn = "nqn.2026-01.io.penstock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa",
		.identity = "NVMe0R01 nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555 nqn.2026-01.io.pen"
			"stock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa",
		.psk = "5b0b08f6e937b6e6ee1824cf5ffa6e221a477df5111e1c2f5d58540f397796e5",
	},
	{
		.made_by_hosts = 0,
		.key = "NVMeTLSkey-1:01:e3bfxvKAi0SIP8avPdCBrDC5Ndb2SLwNHy7kXA7Y/y6P9lcW:",
		.hostnqn = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555",
		.subnqn = "nqn.2026-01.io.penstock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa",
		.identity = "NVMe0R01 nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555 nqn.2026-01.io.pen"
			"stock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa",
		.psk = "35bb407fd9d685ca790e4e840bfeb8f037ef70baa34b9d1a25edafddc1a6e1f5",
	},
	{
		.made_by_hosts = 0,
		.key = "NVMeTLSkey-1:02:a/KKvmOXHNaTZnb0z97ed+Dehc4eQZhj5VGXd4JoOVr5TpBZz6MA2Fyj5AIvCr/QA4SABg==:",
		.hostnqn = "nqn.2026-01.example:host",
		.subnqn = "nqn.2026-01.example:subsystem",
		.identity = "NVMe0R02 nqn.2026-01.example:host nqn.2026-01.example:subsystem",
		.psk = "87891645cb194941315880413beeed0dd5fa56f91bbc03b6474942068a9b8bfbc7a3fdfd93112809253c80a8993fc9a7",
	},
	{
		.made_by_hosts = 0,
		.key = "NVMeTLSkey-1:01:vWG3Hv7fUbDyeoJa+tISz+JYvxN4ElFlk0PcZmiNcwdiRzPV:",
		.hostnqn = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555",
		.subnqn = "nqn.2026-01.io.penstock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa",
		.identity = "NVMe1R02 nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555 nqn.2026-01.io.pen"
			"stock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa 5ZJJN4/R/bM8/FIzw5fa2pof8S8REIV22O5SlNgy9aG2Be1B"
			"2RupC6rg9lbMhvfI",
		.psk = "b30f0881e91199c283d6523084b691c3f16c58716aabead6cebb10d297e5bb677f2f2e9b7ff1d16f69eff2b3c262813b",
	},
	{
		.made_by_hosts = 0,
		.key = "NVMeTLSkey-1:02:6hivbXY+9G6MsxELNYHNUMWOMXqgm/s1OsUIa6OsnEDEoAX6J/anXDkxnocmwNvk7OKwLQ==:",
		.hostnqn = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555",
		.subnqn = "nqn.2026-01.io.penstock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa",
		.identity = "NVMe1R01 nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555 nqn.2026-01.io.pen"
			"stock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa SkAL7IBwug5ib+++ZBcwTylcYlz2BOExHkCXswZOevU=",
		.psk = "deaa3019fe5d36b3206b759a12b87fb71a7e0bd0de36bac955482e82a5e27234",
	},
};
