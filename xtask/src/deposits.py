import glob, json, sys
from ethstaker_deposit.settings import get_chain_setting
from ethstaker_deposit.utils.validation import validate_deposit
from ethstaker_deposit.key_handling.keystore import Keystore
from py_ecc.bls import G2ProofOfPossession as bls
folder, network = sys.argv[1:]
rows = json.load(open(f"{folder}/deposit-data.json"))
bad = [row["pubkey"] for row in rows if not validate_deposit(row, get_chain_setting(network))]
assert rows and not bad, f"refused deposits: {bad}"
lock = json.load(open(f"{folder}/cluster-lock.json"))
opened = 0
for node in range(len(lock["operators"])):
    for number, validator in enumerate(lock["validators"]):
        name = f"{folder}/node{node}/keys/keystore-{number}"
        keystore = json.load(open(name + ".json"))
        keystore["path"] = "m/12381/3600/0/0/0"
        secret = Keystore.from_json(keystore).decrypt(open(name + ".txt").read())
        public = bls.SkToPk(int.from_bytes(secret, "big"))
        assert "0x" + public.hex() == validator["public_shares"][node], name
        opened += 1
print(f"{len(rows)} deposits are valid, {opened} keystores opened")
