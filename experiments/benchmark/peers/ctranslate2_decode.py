"""Search of CTranslate2 in float32 with an exported model.

    python ctranslate2_decode.py FOLDER SOURCES THREADS

SOURCES is a JSON list of sentences, lists of tokens. It answers {"beams", "penalty", "limit", "inter", "intra",
"batch"} with the output tokens, ends counted, and the seconds; with {"outputs": FILE} it writes the outputs there, too.
"""

import json
import pathlib
import sys
import time

import ctranslate2


def main(folder, sources, threads):
    """Loads both layouts of the threads, then answers."""
    sentences = json.loads(pathlib.Path(sources).read_text(encoding='utf-8'))
    translators = {(inter, intra): ctranslate2.Translator(folder, device='cpu', compute_type='float32',
                                                          inter_threads=inter, intra_threads=intra)
                   for inter, intra in {(1, threads), (threads, 1)}}
    print(json.dumps({'name': f'CTranslate2 {ctranslate2.__version__}'}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        begin = time.perf_counter()
        found = translators[asked['inter'], asked['intra']].translate_batch(
            sentences, beam_size=asked['beams'], length_penalty=asked['penalty'], max_batch_size=asked['batch'],
            max_decoding_length=asked['limit'], min_decoding_length=0, max_input_length=0, return_end_token=True)
        seconds = time.perf_counter() - begin
        outputs = [one.hypotheses[0] for one in found]
        if 'outputs' in asked:
            pathlib.Path(asked['outputs']).write_text(json.dumps(outputs), encoding='utf-8')
        print(json.dumps({'tokens': sum(map(len, outputs)), 'seconds': seconds}), flush=True)


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
