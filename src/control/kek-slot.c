/* SPDX-License-Identifier: Apache-2.0 */
/* Key slots in bytes. The wrapped secret is the volume key and, behind it, the family: a slot can't be moved. */
#include "control/kek.h"

#include "base/crc32c.h"

#include <string.h>

#define SLOT_MAGIC "PSTKEYSL"
#define SLOT_VERSION 1u

struct slot_disk {
	char magic[8];
	uint32_t crc; /* of the slot with this field 0 */
	uint16_t version;
	uint16_t wrap, cipher;
	uint16_t kek_id_bytes;
	uint32_t wrapped_bytes;
	uint8_t family[16];
	uint64_t wrapped_ns;
	uint8_t reserved[16];
	char kek_id[PST_KEK_ID_MAX];
	uint8_t wrapped[];
};
_Static_assert(sizeof(struct slot_disk) == 128, "key slot");
_Static_assert(sizeof(struct slot_disk) + PST_KEK_WRAPPED_MAX <= PST_KEY_SLOT_MAX, "key slot");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the slot is written as it is in memory");

bool pst_kek_id_ok(const char *id)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t len = strnlen(id, PST_KEK_ID_MAX + 1);

	return len > 0 && len <= PST_KEK_ID_MAX && id[0] != '.' && strspn(id, allowed) == len;
}

uint32_t pst_key_slot_encode(const struct pst_key_slot *slot, uint8_t buf[PST_KEY_SLOT_MAX])
{
	struct slot_disk head = { .magic = SLOT_MAGIC,
				  .version = SLOT_VERSION,
				  .wrap = PST_KEY_WRAP_AES_KWP,
				  .cipher = PST_KEY_CIPHER_AES_256_XTS,
				  .kek_id_bytes = (uint16_t)strlen(slot->kek_id),
				  .wrapped_bytes = slot->wrapped_bytes,
				  .wrapped_ns = slot->wrapped_ns };
	uint32_t bytes = (uint32_t)sizeof(head) + slot->wrapped_bytes;

	pst_assert(pst_kek_id_ok(slot->kek_id) && slot->wrapped_bytes <= PST_KEK_WRAPPED_MAX);
	memcpy(head.family, slot->family, sizeof(head.family));
	memcpy(head.kek_id, slot->kek_id, head.kek_id_bytes);
	memcpy(buf, &head, sizeof(head));
	memcpy(buf + sizeof(head), slot->wrapped, slot->wrapped_bytes);
	head.crc = pst_crc32c(buf, bytes);
	memcpy(buf, &head, sizeof(head));
	return bytes;
}

pst_err pst_key_slot_decode(const uint8_t *buf, uint32_t bytes, struct pst_key_slot *ret_slot)
{
	struct slot_disk head, zeroed;
	uint32_t crc;

	if (bytes < sizeof(head))
		return PST_E_FORMAT;
	memcpy(&head, buf, sizeof(head));
	if (memcmp(head.magic, SLOT_MAGIC, sizeof(head.magic)) != 0 || head.wrapped_bytes > PST_KEK_WRAPPED_MAX ||
	    bytes != sizeof(head) + head.wrapped_bytes)
		return PST_E_FORMAT;
	zeroed = head;
	zeroed.crc = 0;
	crc = pst_crc32c(&zeroed, sizeof(zeroed));
	crc = pst_crc32c_more(crc, buf + sizeof(head), head.wrapped_bytes);
	if (crc != head.crc)
		return PST_E_CHECKSUM;
	if (head.version != SLOT_VERSION || head.wrap != PST_KEY_WRAP_AES_KWP ||
	    head.cipher != PST_KEY_CIPHER_AES_256_XTS || head.kek_id_bytes > PST_KEK_ID_MAX)
		return PST_E_FORMAT;
	*ret_slot = (struct pst_key_slot){ .wrapped_ns = head.wrapped_ns, .wrapped_bytes = head.wrapped_bytes };
	memcpy(ret_slot->family, head.family, sizeof(head.family));
	memcpy(ret_slot->kek_id, head.kek_id, head.kek_id_bytes);
	memcpy(ret_slot->wrapped, buf + sizeof(head), head.wrapped_bytes);
	return pst_kek_id_ok(ret_slot->kek_id) ? PST_OK : PST_E_FORMAT;
}
